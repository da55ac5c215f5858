from __future__ import annotations
import json, gzip, zlib, pytest, itertools
RUN = "run-0123456789-abcdefghij"
HEAD = "HTTP/1.1 200 OK\r\n"
def ev(n, type="token", data='{"text":"x"}', run=RUN): return f"id: {run}/{n}\nevent: {type}\ndata: {data}\n\n"
TURN=ev(1,"turn",'{"turn_number":1}')
async def forever(peer, piece):
    while True: await peer.send(piece)
async def endless_head(peer):
    await peer.send(HEAD); await forever(peer, "X-More: and more\r\n"*100)
async def endless_head_line(peer):
    await peer.send(HEAD+"X-More: "); await forever(peer, "a"*10000)
async def trickled_head(peer):
    import asyncio
    await peer.send(HEAD)
    while True:
        await peer.send("a"); await asyncio.sleep(.05)
async def informational(peer):
    await forever(peer, "HTTP/1.1 103 Early Hints\r\n\r\n"*100)
async def endless_chunk_line(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN); await forever(peer,"0"*10000)
async def endless_trailers(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN); await peer.send("0\r\n"); await forever(peer,"X-More: and more\r\n"*100)
async def endless_line(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN+"data: ")
    p=b"a"*65536
    while True: await peer.chunk(p)
async def endless_line_first(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk("data: ")
    p=b"a"*65536
    while True: await peer.chunk(p)
async def endless_stream(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN)
    for n in itertools.count(2):
        await peer.chunk("".join(ev(n*100+k) for k in range(100)))
async def endless_comments(peer):
    await peer.stream(agentstream_run=RUN)
    p=":\n"*30000
    while True: await peer.chunk(p)
async def endless_behind_terminal(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN+ev(2)+ev(3,"done",'{"status":"completed"}'))
    for n in itertools.count(2):
        await peer.chunk("".join(ev(n*100+k) for k in range(100)))
async def million(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN)
    for n in range(1000):
        await peer.chunk("".join(ev(n*1000+k+2) for k in range(1000)))
    await peer.chunk(ev(1000002,"done",'{"status":"completed"}')); await peer.end()
async def million_tiny(peer):
    await peer.stream(agentstream_run=RUN)
    for n in range(100): await peer.chunk("data:{}\n\n"*10000)
    await peer.end()
async def many50k(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN)
    for n in range(50):
        await peer.chunk("".join(ev(n*1000+k+2) for k in range(1000)))
    await peer.chunk(ev(50002,"done",'{"status":"completed"}')); await peer.end()
async def one_big(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN); await peer.chunk(f'id: {RUN}/2\nevent: token\ndata: {{"text":"')
    p=b"a"*10**6
    for _ in range(100): await peer.chunk(p)
    await peer.chunk('"}\n\n'+ev(3,"done",'{"status":"completed"}')); await peer.end()
async def big_json(peer):
    await peer.head(content_type="application/json", content_length=str(10**8))
    p=b"[1,"*(10**6//4)
    for _ in range(10**8//len(p)+1): await peer.send(p)
async def gzip_noflush(peer):
    import asyncio
    await peer.stream(agentstream_run=RUN, content_encoding="gzip")
    c=zlib.compressobj(wbits=31); 
    await peer.chunk(c.compress((TURN+ev(2)).encode()) or b"x"); await asyncio.sleep(30)
async def gzip_noflush2(peer):
    import asyncio
    await peer.stream(agentstream_run=RUN, content_encoding="gzip")
    c=zlib.compressobj(wbits=31)
    for n in range(100000):
        d=c.compress(ev(n+1).encode())
        if d: await peer.chunk(d)
        await asyncio.sleep(.02)
async def gzip_bomb(peer):
    await peer.stream(agentstream_run=RUN, content_encoding="gzip")
    c=zlib.compressobj(9,wbits=31); d=c.compress(TURN.encode()); z=bytes(10**7)
    for n in range(400):
        d+=c.compress(z)
        if d: await peer.chunk(d)
        d=b""
    await peer.chunk(c.flush()); await peer.end()
async def redirects(peer):
    await peer.answer("307 Temporary Redirect", location=peer.target)
async def one_byte(peer):
    await peer.send("H")
async def one_body_byte(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk("d")
async def tiny_chunks(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN)
    p="1\r\n:\r\n"*5000
    await forever(peer,p)
async def drip(peer):
    import asyncio
    await peer.stream(agentstream_run=RUN)
    while True:
        await peer.chunk(":"); await asyncio.sleep(.1)
async def invalid(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk(TURN)
    await peer.chunk(f'id: {RUN}/2\nevent: token\ndata: '.encode()+b"\xff"*(10**7)+b"\n\n")
    await peer.chunk(ev(3,"done",'{"status":"completed"}')); await peer.end()
async def another_each(peer):
    import secrets
    run=secrets.token_urlsafe(24)
    await peer.stream(agentstream_run=run); await peer.chunk(ev(1,"turn",'{"turn_number":1}',run)+ev(2,run=run))
async def retry_long(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk("retry: 29000\n"+TURN+ev(2))
async def retry_short(peer):
    await peer.stream(agentstream_run=RUN); await peer.chunk("retry: 1\n"+TURN+ev(2))
T={k:v for k,v in list(globals().items()) if callable(v) and hasattr(v,"__code__") and v.__code__.co_argcount==1 and k not in("ev",)}
@pytest.mark.parametrize("name",T)
def test_x(judge,name):
    o=judge(T[name])
    print("\n=====",name,o.code,round(o.seconds,1),o.memory>>20,"TRACE" if "Traceback" in o.said else "", "INTERNAL" if "INTERNALERROR" in o.said else "", len(o.said))
    print(o.preflight[:900] if "agentstream preflight:" in o.said else o.said[-1500:])
    __import__("pathlib").Path(f"/tmp/hostile-{name}.txt").write_text(o.said)

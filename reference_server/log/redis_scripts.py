"""What a log in Redis does in one step each: Lua, which nothing else runs in between.

    agentstream:run:RUN       hash: owner, key, producer, closed, last, expires
    agentstream:events:RUN    stream: SEQ-0 -> t (type), p (payload)
    agentstream:open:N        set: the open runs that lease N holds
    agentstream:leases        sorted set: lease N -> when it expires
    agentstream:kept          sorted set: run -> when its events go; open runs never
    agentstream:sizes         hash: run -> bytes; their sum is agentstream:bytes
    agentstream:changes       stream: r, the runs that have grown or were closed
    agentstream:letters:N     stream: what others write to the holder of lease N

All times are Redis's own, in milliseconds, so that the clocks of replicas do not matter.
"""

from __future__ import annotations

_COMMON = """
local P = 'agentstream:'
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function alive(producer)
  local expires = redis.call('ZSCORE', P .. 'leases', producer)
  return expires and tonumber(expires) > now()
end
local function grow(run, size)
  redis.call('HINCRBY', P .. 'sizes', run, size)
  redis.call('INCRBY', P .. 'bytes', size)
end
local function close(run, producer, key, retention, remember)
  local t = now()
  redis.call('HSET', P .. 'run:' .. run, 'closed', '1', 'expires', t + retention)
  redis.call('PEXPIRE', P .. 'events:' .. run, retention)
  redis.call('PEXPIRE', P .. 'run:' .. run, retention + remember)
  if key ~= '' then redis.call('PEXPIRE', key, retention + remember) end
  redis.call('ZADD', P .. 'kept', t + retention, run)
  redis.call('SREM', P .. 'open:' .. producer, run)
end
local function tell(runs)
  redis.call('XADD', P .. 'changes', 'MAXLEN', '~', 2000, '*', 'r', table.concat(runs, ' '))
end
local function free()
  for _, run in ipairs(redis.call('ZRANGEBYSCORE', P .. 'kept', '-inf', now(), 'LIMIT', 0, 100)) do
    grow(run, -(redis.call('HGET', P .. 'sizes', run) or 0))
    redis.call('HDEL', P .. 'sizes', run)
    redis.call('ZREM', P .. 'kept', run)
  end
end
"""

REGISTER = (
    _COMMON
    + """
local producer = redis.call('INCR', P .. 'producers')
redis.call('ZADD', P .. 'leases', now() + ARGV[1], producer)
return producer
"""
)

RENEW = (
    _COMMON
    + """
if not redis.call('ZSCORE', P .. 'leases', ARGV[1]) then return 0 end
redis.call('ZADD', P .. 'leases', now() + ARGV[2], ARGV[1])
return 1
"""
)

CREATE = (
    _COMMON
    + """
local run, owner, key, producer, max_runs, max_bytes = unpack(ARGV)
if key ~= '' then
  local holder = redis.call('GET', key)
  if holder and redis.call('EXISTS', P .. 'run:' .. holder) == 1 then return holder end
end
free()
local size = tonumber(redis.call('GET', P .. 'bytes') or 0)
if redis.call('ZCARD', P .. 'kept') >= tonumber(max_runs) or size >= tonumber(max_bytes) then
  return false
end
redis.call('HSET', P .. 'run:' .. run,
  'owner', owner, 'key', key, 'producer', producer, 'closed', '0', 'last', 0)
redis.call('ZADD', P .. 'kept', '+inf', run)
redis.call('SADD', P .. 'open:' .. producer, run)
if key ~= '' then redis.call('SET', key, run) end
return run
"""
)

COMMIT = (
    _COMMON
    + """
-- steps: run, first, count, size, trim, retention (-1: goes on), then type and payload of each
local producer, remember = ARGV[1], tonumber(ARGV[2])
local lost, grown, at = {}, {}, 3
while at <= #ARGV do
  local run, first, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local size, trim, retention = ARGV[at + 3], tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  at = at + 6
  local row = redis.call('HMGET', P .. 'run:' .. run, 'producer', 'closed', 'last', 'key')
  local stored, last = tonumber(row[3] or 0), first + count - 1
  if row[1] ~= producer or (row[2] == '1' and stored < last) then
    lost[#lost + 1] = run
  elseif row[2] ~= '1' then  -- else it was done, and only the answer got lost
    for index = 0, count - 1 do
      local seq = first + index
      if seq > stored then
        local event = at + 2 * index
        redis.call('XADD', P .. 'events:' .. run, string.format('%.0f-0', seq),
          't', ARGV[event], 'p', ARGV[event + 1])
      end
    end
    if last > stored then
      redis.call('HSET', P .. 'run:' .. run, 'last', string.format('%.0f', last))
      grow(run, size)
    end
    if trim > 0 then
      redis.call('XTRIM', P .. 'events:' .. run, 'MINID', string.format('%.0f-0', trim + 1))
    end
    if retention >= 0 then close(run, producer, row[4], retention, remember) end
    grown[#grown + 1] = run
  end
  at = at + 2 * count
end
if #grown > 0 then tell(grown) end
return lost
"""
)

END = (
    _COMMON
    + """
local run, if_abandoned = ARGV[1], ARGV[2]
local retention, remember = tonumber(ARGV[3]), tonumber(ARGV[4])
local row = redis.call('HMGET', P .. 'run:' .. run, 'producer', 'closed', 'last', 'key')
if not row[1] then return -1 end
if row[2] == '1' or (if_abandoned == '1' and alive(row[1])) then return 0 end
local last, size = tonumber(row[3]), 0
for at = 5, #ARGV, 2 do
  last = last + 1
  redis.call('XADD', P .. 'events:' .. run, string.format('%.0f-0', last),
    't', ARGV[at], 'p', ARGV[at + 1])
  size = size + #ARGV[at + 1]
end
redis.call('HSET', P .. 'run:' .. run, 'last', string.format('%.0f', last), 'producer', '0')
grow(run, size)
close(run, row[1], row[4], retention, remember)
redis.call('XADD', P .. 'letters:' .. row[1], 'MAXLEN', '~', 10000, '*', 'run', run)
redis.call('PEXPIRE', P .. 'letters:' .. row[1], 3600000)
tell({run})
return 1
"""
)

STATE = (
    _COMMON
    + """
local row = redis.call('HMGET', P .. 'run:' .. ARGV[1],
  'owner', 'closed', 'last', 'expires', 'producer')
if not row[1] then return false end
local oldest = redis.call('XRANGE', P .. 'events:' .. ARGV[1], '-', '+', 'COUNT', 1)[1]
local expired = row[2] == '1' and now() >= tonumber(row[4])
local abandoned = row[2] ~= '1' and not alive(row[5])
return {row[1], row[2], row[3], oldest and oldest[1] or '',
  expired and 1 or 0, abandoned and 1 or 0}
"""
)

ABANDONED = (
    _COMMON
    + """
local found = {}
for _, producer in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now(),
    'LIMIT', 0, 100)) do
  for _, run in ipairs(redis.call('SRANDMEMBER', P .. 'open:' .. producer, 100)) do
    found[#found + 1] = run
  end
  local expires = tonumber(redis.call('ZSCORE', P .. 'leases', producer))
  if expires < now() - 60000 and redis.call('EXISTS', P .. 'open:' .. producer) == 0 then
    redis.call('ZREM', P .. 'leases', producer)
  end
  if #found >= 100 then break end
end
return found
"""
)

SWEEP = _COMMON + "free()"

POST = (
    _COMMON
    + """
local row = redis.call('HMGET', P .. 'run:' .. ARGV[1], 'producer', 'closed')
if not row[1] or row[2] == '1' then return false end
local letters = P .. 'letters:' .. row[1]
local number = redis.call('XADD', letters, 'MAXLEN', '~', 10000, '*',
  'run', ARGV[1], 'request', ARGV[2], 'text', ARGV[3])
redis.call('PEXPIRE', letters, 3600000)
return row[1] .. ':' .. number
"""
)

# one string: a client parses it faster than many small ones
READ = (
    _COMMON
    + """
local found = {}
for _, row in ipairs(redis.call('XRANGE', P .. 'events:' .. ARGV[1], '(' .. ARGV[2] .. '-0', '+',
    'COUNT', ARGV[3])) do
  found[#found + 1] = {row[1], row[2][2], row[2][4]}
end
return #found > 0 and cjson.encode(found) or '[]'
"""
)

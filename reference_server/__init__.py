"""The reference server: a server of agent streams that keeps every promise of docs/protocol.md."""

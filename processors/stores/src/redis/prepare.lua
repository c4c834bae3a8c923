-- Notes a projection's declaration, if there is none yet.
-- KEYS: declaration. ARGV: layout, version, text.
-- Returns what is noted, and the server's own account of its memory.
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'version', ARGV[2], 'declaration', ARGV[3])
end
local memory = redis.pcall('INFO', 'memory')
if type(memory) ~= 'string' then memory = '' end
return {redis.call('HMGET', KEYS[1], 'layout', 'version', 'declaration'), memory}

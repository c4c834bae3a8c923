-- Notes a build's declaration, if there is none yet.
-- KEYS: declaration, set of builds, declaration of the live build.
-- ARGV: layout, version, text, tag, name of the build.
-- Returns what is noted, whether it is being removed, whether its tag is the live build's, and the
-- server's own account of its memory.
local live = KEYS[1] ~= KEYS[3] and redis.call('EXISTS', KEYS[3]) == 1
    and (redis.call('HGET', KEYS[3], 'tag') or '1') == ARGV[4]
if redis.call('EXISTS', KEYS[1]) == 0 and not live then
    redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'version', ARGV[2], 'declaration', ARGV[3],
        'tag', ARGV[4])
end
if not live then redis.call('SADD', KEYS[2], ARGV[5]) end
local memory = redis.pcall('INFO', 'memory')
if type(memory) ~= 'string' then memory = '' end
local noted = redis.call('HMGET', KEYS[1], 'layout', 'version', 'declaration')
for i = 1, 3 do noted[i] = noted[i] or ARGV[i] end
return {noted, redis.call('HEXISTS', KEYS[1], 'dropping'), live and 1 or 0, memory}

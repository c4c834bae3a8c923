-- Notes a build's declaration, if there is none yet.
-- KEYS: declaration, set of builds, declaration of the live build, that as layout 1 named it.
-- ARGV: layout, version, text, tag, name of the build.
-- Returns what is noted, whether it is being removed, whether its tag is the live build's, and the
-- server's own account of its memory. The live build is not noted beside one of layout 1.
local is_live = KEYS[1] == KEYS[3]
local live = not is_live and redis.call('EXISTS', KEYS[3]) == 1
    and (redis.call('HGET', KEYS[3], 'tag') or '1') == ARGV[4]
local is_new = redis.call('EXISTS', KEYS[1]) == 0 and not live
local memory = redis.pcall('INFO', 'memory')
if type(memory) ~= 'string' then memory = '' end
if is_new and is_live and redis.call('EXISTS', KEYS[4]) == 1 then
    return {{'1', ARGV[2], ARGV[3]}, 0, 0, memory}
end
if is_new then
    redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'version', ARGV[2], 'declaration', ARGV[3],
        'tag', ARGV[4])
end
if not live then redis.call('SADD', KEYS[2], ARGV[5]) end
local noted = redis.call('HMGET', KEYS[1], 'layout', 'version', 'declaration')
for i = 1, 3 do noted[i] = noted[i] or ARGV[i] end
return {noted, redis.call('HEXISTS', KEYS[1], 'dropping'), live and 1 or 0, memory}

-- All builds of one projection.
-- KEYS: set of builds. ARGV: what our own keys begin with.
-- Returns of each its name, version, text of the declaration, tag, and positions.
local builds = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local tag = string.match(name, '@(.*)$')
    local suffix = tag and '@' .. tag or ''
    local noted = redis.call('HMGET', ARGV[1] .. 'declaration' .. suffix,
        'version', 'declaration', 'tag')
    if noted[1] then
        builds[#builds + 1] = {name, noted[1], noted[2], noted[3] or '1',
            redis.call('HGETALL', ARGV[1] .. 'positions' .. suffix)}
    end
end
return builds

-- Removes some rows of a build, then its lists, and with the last of them the build. Marked at first,
-- it can neither be filled nor become the live one from then on.
-- KEYS: declaration, positions, versions, set of builds, declaration of the live build, set of lists.
-- ARGV: what all keys of the projection begin with, what our own begin with, tag, name of the build,
-- number of rows. Returns 1 when it is gone, else 0; 2 when it is live.
local text = redis.call('HGET', KEYS[1], 'declaration')
if not text then
    local live = redis.call('EXISTS', KEYS[5]) == 1 and (redis.call('HGET', KEYS[5], 'tag') or '1')
    return live == ARGV[3] and 2 or 1
end
redis.call('HSET', KEYS[1], 'dropping', '1')
local left = tonumber(ARGV[5])
local function remove(set)
    local names = redis.call('SPOP', set, left)
    for _, name in ipairs(names) do
        local stem, rest = string.match(name, '^([^:]*)(.*)$')
        redis.call('UNLINK', ARGV[1] .. stem .. '@' .. ARGV[3] .. rest)
    end
    left = left - #names
    return left > 0
end
for line in string.gmatch(text, '[^\n]+') do
    local table = string.match(line, '^table ([%w_]+):')
    if table and not remove(ARGV[2] .. 'rows:' .. table .. '@' .. ARGV[3]) then return 0 end
end
if not remove(KEYS[6]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('SREM', KEYS[4], ARGV[4])
return 1

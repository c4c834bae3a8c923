-- Removes some rows of a build, and with the last of them the build. Marked at first, it can neither
-- be filled nor become the live one from then on.
-- KEYS: declaration, positions, versions, set of builds, declaration of the live build. ARGV: base,
-- tag, name of the build, number of rows. Returns 1 when it is gone, else 0; 2 when it is live.
local text = redis.call('HGET', KEYS[1], 'declaration')
if not text then
    local live = redis.call('EXISTS', KEYS[5]) == 1 and (redis.call('HGET', KEYS[5], 'tag') or '1')
    return live == ARGV[2] and 2 or 1
end
redis.call('HSET', KEYS[1], 'dropping', '1')
local left = tonumber(ARGV[4])
for line in string.gmatch(text, '[^\n]+') do
    local name = string.match(line, '^table ([%w_]+):')
    if name then
        local table = name .. '__' .. ARGV[2]
        local rows = redis.call('SPOP', ARGV[1] .. ':@' .. table, left)
        for _, row in ipairs(rows) do redis.call('UNLINK', ARGV[1] .. ':' .. table .. ':' .. row) end
        left = left - #rows
        if left == 0 then return 0 end
    end
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('SREM', KEYS[4], ARGV[3])
return 1

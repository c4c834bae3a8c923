-- Writes rows and moves positions on, if positions and rows still are what was read. First
-- everything is checked, so that nothing is written when something cannot be.
-- KEYS: positions, counter of versions, a set of keys for each table, rows.
-- ARGV: tables; number of moves, each partition, from, to, epoch; the version of each row; then
-- changes, each row, table, name in the set, number of fields and values (none: delete), these.
-- Returns 1, or 0 when something is not as read.
local at = 0
local function take()
    at = at + 1
    return ARGV[at]
end
local tables = tonumber(take())
local moves = {}
for _ = 1, tonumber(take()) do
    local field, from, to, epoch = take(), take(), take(), take()
    local held = redis.call('HGET', KEYS[1], field) or ('- ' .. epoch)
    if held ~= from .. ' ' .. epoch then return 0 end
    moves[#moves + 1] = field
    moves[#moves + 1] = to .. ' ' .. epoch
end
for i = 1, tables do redis.call('SCARD', KEYS[2 + i]) end
for i = 3 + tables, #KEYS do
    if (redis.call('HGET', KEYS[i], '@') or '') ~= take() then return 0 end
end
local version = redis.call('INCR', KEYS[2])
while at < #ARGV do
    local row, set, name, count = take(), take(), take(), tonumber(take())
    local key, keys = KEYS[2 + tables + row], KEYS[2 + set]
    redis.call('DEL', key)
    if count == 0 then
        redis.call('SREM', keys, name)
    else
        redis.call('HSET', key, '@', version, unpack(ARGV, at + 1, at + count))
        redis.call('SADD', keys, name)
        at = at + count
    end
end
redis.call('HSET', KEYS[1], unpack(moves))
return 1

-- Writes rows, their lists, and moves positions on, if positions and rows still are what was read.
-- First everything is checked, so that nothing is written when something cannot be.
-- KEYS: positions, counter of versions, set of lists, a set of names for each table, rows, lists.
-- ARGV: tables; number of lists, each its name and z (in order) or s; number of moves, each partition,
-- from, to, epoch; the version of each row; number of changes, each row, table, name in the set, number
-- of fields and values (none: delete), these; then steps, each list, member, and - (out), + (in) or the
-- score (in, there).
-- Returns 1, or 0 when something is not as read.
local at = 0
local function take()
    at = at + 1
    return ARGV[at]
end
local tables, lists = tonumber(take()), {}
for i = 1, tonumber(take()) do lists[i] = {name = take(), kind = take()} end
local last_row = #KEYS - #lists
local moves = {}
for _ = 1, tonumber(take()) do
    local field, from, to, epoch = take(), take(), take(), take()
    local held = redis.call('HGET', KEYS[1], field) or ('- ' .. epoch)
    if held ~= from .. ' ' .. epoch then return 0 end
    moves[#moves + 1] = field
    moves[#moves + 1] = to .. ' ' .. epoch
end
for i = 1, tables + 1 do redis.call('SCARD', KEYS[2 + i]) end
for i = 4 + tables, last_row do
    if (redis.call('HGET', KEYS[i], '@') or '') ~= take() then return 0 end
end
for i, list in ipairs(lists) do
    list.key = KEYS[last_row + i]
    redis.call(list.kind == 'z' and 'ZCARD' or 'SCARD', list.key)
end
local version = redis.call('INCR', KEYS[2])
for _ = 1, tonumber(take()) do
    local row, set, name, count = take(), take(), take(), tonumber(take())
    local key, names = KEYS[3 + tables + row], KEYS[3 + set]
    redis.call('DEL', key)
    if count == 0 then
        redis.call('SREM', names, name)
    else
        redis.call('HSET', key, '@', version, unpack(ARGV, at + 1, at + count))
        redis.call('SADD', names, name)
        at = at + count
    end
end
while at < #ARGV do
    local list, member, what = lists[tonumber(take())], take(), take()
    if what == '-' then
        redis.call(list.kind == 'z' and 'ZREM' or 'SREM', list.key, member)
    elseif what == '+' then
        redis.call('SADD', list.key, member)
    else
        redis.call('ZADD', list.key, what, member)
    end
end
for _, list in ipairs(lists) do
    local kept = redis.call('EXISTS', list.key) == 1
    redis.call(kept and 'SADD' or 'SREM', KEYS[3], list.name)
end
redis.call('HSET', KEYS[1], unpack(moves))
return 1

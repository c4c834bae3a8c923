-- Gives partitions to an owner, unless a newer one has one of them.
-- KEYS: positions. ARGV: epoch, 1 to take over, then the partitions.
-- Returns whether it did, and what was held before.
local fields = {unpack(ARGV, 3)}
local held = redis.call('HMGET', KEYS[1], unpack(fields))
local offsets = {}
for i, value in ipairs(held) do
    local offset, epoch = '-', nil
    if value then offset, epoch = string.match(value, '^(%S+) (%S+)$') end
    if epoch and tonumber(epoch) > tonumber(ARGV[1]) and ARGV[2] ~= '1' then
        return {0, held}
    end
    offsets[i] = offset
end
for i, field in ipairs(fields) do
    redis.call('HSET', KEYS[1], field, offsets[i] .. ' ' .. ARGV[1])
end
return {1, held}

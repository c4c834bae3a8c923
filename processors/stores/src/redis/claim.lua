-- Gives partitions to an owner, unless a newer one has one of them.
-- KEYS: positions, declaration. ARGV: epoch, 1 to take over, version, text of the declaration, then
-- the partitions. Returns 1, or 0 when another is the owner, or 2 when the declaration is another
-- one; and what was held before.
local noted = redis.call('HMGET', KEYS[2], 'version', 'declaration')
if noted[1] ~= ARGV[3] or noted[2] ~= ARGV[4] then return {2, {}} end
local fields = {unpack(ARGV, 5)}
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

-- Reads positions and rows at one moment.
-- KEYS: positions, rows. ARGV: partitions.
local held = {}
for i, field in ipairs(ARGV) do held[i] = redis.call('HGET', KEYS[1], field) end
local rows = {}
for i = 2, #KEYS do rows[i - 1] = redis.call('HGETALL', KEYS[i]) end
return {held, rows}

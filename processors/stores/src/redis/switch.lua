-- Makes a build the live one; the one that was live is kept under its own tag. All of it is renames:
-- its time grows with the rows of both builds, and the server does nothing else meanwhile.
-- KEYS: declaration of the live build, that of the incoming one (all others begin with the base).
-- ARGV: base, projection, tag of the incoming build.
-- Returns the tag of the live build where there is no such build, else false; 'dropping' where it is
-- being removed.
local base, projection, tag = ARGV[1], ARGV[2], ARGV[3]
local function own(name, of)
    if of then return base .. ':@' .. name .. '@' .. of end
    return base .. ':@' .. name
end
local function stored(name, of)
    if of then return name .. '__' .. of end
    return name
end
local function move(key, to)
    if redis.call('EXISTS', key) == 1 then redis.call('RENAME', key, to) end
end
local live = redis.call('EXISTS', KEYS[1]) == 1 and (redis.call('HGET', KEYS[1], 'tag') or '1')
if redis.call('EXISTS', KEYS[2]) == 0 then return live or '' end
if redis.call('HEXISTS', KEYS[2], 'dropping') == 1 then return 'dropping' end

local function move_build(from, to)
    local text = redis.call('HGET', own('declaration', from), 'declaration')
    for line in string.gmatch(text, '[^\n]+') do
        local name = string.match(line, '^table ([%w_]+):')
        if name then
            local old, new = stored(name, from), stored(name, to)
            for _, row in ipairs(redis.call('SMEMBERS', base .. ':@' .. old)) do
                move(base .. ':' .. old .. ':' .. row, base .. ':' .. new .. ':' .. row)
            end
            move(base .. ':@' .. old, base .. ':@' .. new)
        end
    end
    for _, name in ipairs({'declaration', 'positions', 'versions'}) do
        move(own(name, from), own(name, to))
    end
    redis.call('SREM', own('builds'), from and projection .. '@' .. from or projection)
    redis.call('SADD', own('builds'), to and projection .. '@' .. to or projection)
end

local epoch = -1
local before = redis.call('HGETALL', own('positions'))
for i = 2, #before, 2 do
    epoch = math.max(epoch, tonumber(string.match(before[i], ' (%S+)$')))
end
-- As text: the epoch is a whole number, and Lua would write large ones with an exponent.
epoch = string.format('%.0f', epoch + 1)
if live then move_build(false, live) end
move_build(tag, false)
for i = 1, #before, 2 do redis.call('HSETNX', own('positions'), before[i], '- 0') end
local positions = redis.call('HGETALL', own('positions'))
for i = 1, #positions, 2 do
    local offset = string.match(positions[i + 1], '^(%S+) ')
    redis.call('HSET', own('positions'), positions[i], offset .. ' ' .. epoch)
end
return false

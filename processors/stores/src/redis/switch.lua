-- Makes a build the live one; the one that was live is kept under its own tag. All of it is renames:
-- its time grows with the rows and lists of both builds, and the server does nothing else meanwhile.
-- KEYS: declaration of the live build, that of the incoming one (all others begin as said).
-- ARGV: what all keys of the projection begin with, what our own begin with, projection, tag of the
-- incoming build.
-- Returns the tag of the live build where there is no such build, else false; 'dropping' where it is
-- being removed.
local space, base, projection, tag = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local function suffix(of) return of and '@' .. of or '' end
local function own(name, of) return base .. name .. suffix(of) end
local function key(name, of)
    local stem, rest = string.match(name, '^([^:]*)(.*)$')
    return space .. stem .. suffix(of) .. rest
end
local function move(from, to)
    if redis.call('EXISTS', from) == 1 then redis.call('RENAME', from, to) end
end
local live = redis.call('EXISTS', KEYS[1]) == 1 and (redis.call('HGET', KEYS[1], 'tag') or '1')
if redis.call('EXISTS', KEYS[2]) == 0 then return live or '' end
if redis.call('HEXISTS', KEYS[2], 'dropping') == 1 then return 'dropping' end

local function move_all(set, from, to)
    for _, name in ipairs(redis.call('SMEMBERS', own(set, from))) do
        move(key(name, from), key(name, to))
    end
    move(own(set, from), own(set, to))
end
local function move_build(from, to)
    local text = redis.call('HGET', own('declaration', from), 'declaration')
    for line in string.gmatch(text, '[^\n]+') do
        local table = string.match(line, '^table ([%w_]+):')
        if table then move_all('rows:' .. table, from, to) end
    end
    move_all('lists', from, to)
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

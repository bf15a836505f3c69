-- Appends a message to the history of a topic, and publishes it with its position.
--
-- KEYS: 1 state of the topic (hash), 2 messages (stream)
-- ARGV: 1 channel, 2 envelope, 3 most messages, 4 age in ms, 5 run of the server, 6 a random epoch,
--       7 node, 8 series, 9 number, 10 whether messages before it were dropped, 11 PUBLISH or
--       SPUBLISH
--
-- Returns the offset, or 0 if the message was appended before.
local state, messages = KEYS[1], KEYS[2]
local age, series, number = tonumber(ARGV[4]), tonumber(ARGV[8]), tonumber(ARGV[9])
local sender = 'n' .. ARGV[7]
local known = redis.call('HMGET', state, 'epoch', 'offset', 'time', 'run', sender)
local epoch, offset = known[1], tonumber(known[2] or 0)
-- Another run of the server, or a replica that was promoted, may lack the newest messages.
local is_whole = epoch and known[4] == ARGV[5] and ARGV[10] == '0'
if known[5] then
    local last_series, last = string.match(known[5], '^(%d+) (%d+)')
    last_series, last = tonumber(last_series), tonumber(last)
    if series < last_series or (series == last_series and number <= last) then
        return 0
    end
    if series > last_series then
        last = 0
    end
    if number ~= last + 1 then
        -- A message of the node did not come here.
        is_whole = false
    end
end
if not epoch then
    redis.call('DEL', messages)
end
if not is_whole then
    -- No client recovers across the loss.
    epoch = ARGV[6]
end
offset = offset + 1
local time = redis.call('TIME')
local now = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(known[3] or 0))
local at = string.format('%.0f', offset)
local now_text = string.format('%.0f', now)
redis.call('XADD', messages, 'MAXLEN', '=', ARGV[3], now_text .. '-' .. at, 'm', ARGV[2])
redis.call('XTRIM', messages, 'MINID', '=', string.format('%.0f', math.max(now - age, 0)))
redis.call('PEXPIRE', messages, ARGV[4])
local fields = redis.call('HSET', state, 'epoch', epoch, 'offset', at, 'time', now_text, 'run', ARGV[5],
    sender, ARGV[8] .. ' ' .. ARGV[9] .. ' ' .. now_text)
-- The state stays for an hour more, so that a client that has missed nothing finds its epoch.
redis.call('PEXPIRE', state, string.format('%.0f', age + 3600000))
if fields > 0 and redis.call('HLEN', state) > 260 then
    -- Nodes that have published nothing for an hour do not repeat anything.
    local all = redis.call('HGETALL', state)
    for i = 1, #all, 2 do
        local used = string.match(all[i + 1], '^%d+ %d+ (%d+)$')
        if used and tonumber(used) < now - 3600000 then
            redis.call('HDEL', state, all[i])
        end
    end
end
redis.call(ARGV[11], ARGV[1], '\255WH\1' .. epoch .. at .. ':' .. ARGV[2])
return offset

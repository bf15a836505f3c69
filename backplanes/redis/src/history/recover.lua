-- Reads the messages of a topic that a client missed.
--
-- KEYS: 1 state of the topic (hash), 2 messages (stream)
-- ARGV: 1 epoch, or empty for the newest messages, 2 offset after which, or how many, 3 most
--       messages, 4 age in ms, 5 run of the server
--
-- Returns the epoch and the entries of the stream, the newest first; or nil for a gap.
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'run')
local count, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local is_position = ARGV[1] ~= ''
if is_position then
    if known[1] ~= ARGV[1] or known[3] ~= ARGV[5] then
        return false
    end
    count = tonumber(known[2]) - count
    if count < 0 or count > most then
        return false
    end
elseif not known[1] then
    return {ARGV[1], {}}
end
count = math.min(count, most)
if count == 0 then
    return {known[1], {}}
end
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[4])
oldest = string.format('%.0f', math.max(oldest, 0))
local found = redis.call('XREVRANGE', KEYS[2], '+', oldest, 'COUNT', string.format('%.0f', count))
if is_position and #found < count then
    return false
end
return {known[1], found}

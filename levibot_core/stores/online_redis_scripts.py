"""The scripts that the Redis backend of the online store runs in the server, each in one round trip."""

# KEYS: the names, the decision times, what histories follow, then a hash and a sorted set per vector. ARGV: how many
# bars a history has, ten per vector, then identities and their names.
# The first loop refuses a key of another type before anything is written; a script is not rolled back.
PUT = """
for place, key in ipairs(KEYS) do
    if place > 3 and place % 2 == 1 then redis.call('ZCARD', key) else redis.call('HLEN', key) end
end
local width = 10
local vectors = (#KEYS - 3) / 2
local oldest = -1 - tonumber(ARGV[1])
for place = vectors * width + 2, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
end
for number = 1, vectors do
    local key, history = KEYS[2 * number + 2], KEYS[2 * number + 3]
    local first = (number - 1) * width + 1
    local symbol, lifetime_ms = ARGV[first + 1], ARGV[first + 2]
    local ts_ms, known_at_ms, source_kind = tonumber(ARGV[first + 3]), tonumber(ARGV[first + 4]), ARGV[first + 7]
    local follows = source_kind .. ' ' .. ARGV[first + 6]
    local stored = redis.call('HMGET', key, 'ts_ms', 'known_at_ms', 'source_kind')
    local stored_ts_ms, stored_known_at_ms = tonumber(stored[1]), tonumber(stored[2])
    if not stored_ts_ms or not stored_known_at_ms or stored[3] ~= source_kind or ts_ms > stored_ts_ms
        or (ts_ms == stored_ts_ms and known_at_ms >= stored_known_at_ms) then
        redis.call('DEL', key)
        redis.call('HSET', key, 'ts_ms', ARGV[first + 3], 'known_at_ms', ARGV[first + 4],
            'feature_set', ARGV[first + 5], 'feature_names', ARGV[first + 6], 'source_kind', source_kind,
            'close', ARGV[first + 8], 'values', ARGV[first + 9], 'written_at_ms', ARGV[first + 10])
        if lifetime_ms ~= '' then redis.call('PEXPIRE', key, lifetime_ms) end
        redis.call('HSET', KEYS[2], symbol, ARGV[first + 4])
        if redis.call('HGET', KEYS[3], symbol) ~= follows then
            redis.call('DEL', history)
            redis.call('HSET', KEYS[3], symbol, follows)
        end
        redis.call('ZREMRANGEBYSCORE', history, '(' .. ARGV[first + 3], '+inf')
    end
    if redis.call('HGET', KEYS[3], symbol) == follows then
        local before = redis.call('ZRANGEBYSCORE', history, ARGV[first + 3], ARGV[first + 3])[1]
        if not before or struct.unpack('<i8', before, 9) <= known_at_ms then
            redis.call('ZREMRANGEBYSCORE', history, ARGV[first + 3], ARGV[first + 3])
            redis.call('ZADD', history, ARGV[first + 3],
                struct.pack('<i8i8d', ts_ms, known_at_ms, tonumber(ARGV[first + 8])) .. ARGV[first + 9])
            redis.call('ZREMRANGEBYRANK', history, 0, oldest)
        end
    end
end
"""
# KEYS: the hash and the sorted set of a symbol. ARGV: the number of bars. An expired vector has no history.
GET_HISTORY = """
local newest = redis.call('HMGET', KEYS[1], 'feature_set', 'feature_names', 'source_kind')
if not newest[1] then return nil end
return {newest, redis.call('ZRANGE', KEYS[2], -tonumber(ARGV[1]), -1)}
"""
# A pipeline of commands would be one round trip too, at twice the time for fifteen symbols.
GET_MANY = """
local found = {}
for place, key in ipairs(KEYS) do
    found[place] = redis.call('HMGET', key,
        'ts_ms', 'known_at_ms', 'feature_set', 'feature_names', 'source_kind', 'close', 'values')
end
return found
"""

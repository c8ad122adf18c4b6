-- One batch of store/backend.py, at once and as a whole. The arithmetic of windows is that of store/windows.py, that of
-- addresses that of store/addresses.py. KEYS are the counters; ARGV[1] is the prefix of all other keys, ARGV[2] the name
-- of a new store, ARGV[3] the batch as JSON. Times are the server's.
local DUST, KEPT, FOR_GOOD, USAGE_DAYS = 1e-9, 86400, 1e17, 400
local prefix, batch = ARGV[1], cjson.decode(ARGV[3])
local clock = redis.call('TIME')
local at = tonumber(clock[1]) + tonumber(clock[2]) / 1e6

local counters = {}

local function counter(index, seconds)
    local one = counters[index]
    if not one then
        local start, now, before = string.match(redis.call('GET', KEYS[index]) or '', '^(%S+) (%S+) (%S+)$')
        one = {start = tonumber(start) or at, now = tonumber(now) or 0, before = tonumber(before) or 0, seconds = seconds}
        counters[index] = one
    end
    return one
end

local function used(one, seconds)
    local age = at - one.start
    if age >= seconds then
        if age < 2 * seconds and one.now ~= 0 then
            one.start, one.before = one.start + seconds, one.now
        else
            one.start, one.before = at, 0
        end
        one.now = 0
    elseif age < 0 then
        one.start = at
    end
    return one.now + one.before * (1 - (at - one.start) / seconds)
end

local function add(one, amount)
    one.now = one.now + amount
    if one.now < 0 then
        one.before, one.now = math.max(0, one.before + one.now), 0
    end
end

local function fits(want, sum)
    return sum + want[4] <= want[2] + want[2] * DUST
end

local function wait(one, want)
    local room = want[2] - want[4]
    if room < 0 then return -1 end
    local left = one.start + want[3] - at
    if one.now <= room then
        if one.before == 0 then return 0 end
        return math.max(0, left - want[3] * (room - one.now) / one.before)
    end
    return left + want[3] * (1 - room / one.now)
end

-- Each want is index, limit, seconds, amount. A verdict is the index of the window that refuses, 0 for none, the seconds
-- to wait, -1 for ever, and then what remains of each window and when it is whole.
local function take(wants)
    local refused, longest, sums = 0, 0, {}
    for at_want, want in ipairs(wants) do
        sums[at_want] = used(counter(want[1], want[3]), want[3])
        if refused == 0 and not fits(want, sums[at_want]) then refused = at_want end
    end
    local verdict = {refused, 0}
    for at_want, want in ipairs(wants) do
        local one, sum = counters[want[1]], sums[at_want]
        if refused == 0 then
            add(one, want[4])
            sum = sum + want[4]
        elseif not fits(want, sum) and longest >= 0 then
            local seconds = wait(one, want)
            longest = seconds < 0 and -1 or math.max(longest, seconds)
        end
        local left = one.start + want[3] - at
        local reset = one.now ~= 0 and left + want[3] or one.before ~= 0 and left or 0
        table.insert(verdict, math.max(0, want[2] - sum))
        table.insert(verdict, reset)
    end
    verdict[2] = longest
    return verdict
end

for _, want in ipairs(batch.adds) do
    local one = counter(want[1], want[2])
    used(one, want[2])
    add(one, want[3])
end
local verdicts = {}
for index, wants in ipairs(batch.takes) do verdicts[index] = take(wants) end
for index, one in pairs(counters) do
    local expires = math.ceil((one.start + 2 * one.seconds - at) * 1000)
    redis.call('SET', KEYS[index], string.format('%.17g %.17g %.17g', one.start, one.now, one.before), 'PX', math.max(1, expires))
end

-- What its sender was not told of and sends again has been written.
if batch.parcel > 0 then
    local sent = prefix .. 'sent:' .. batch.sender
    if tonumber(redis.call('GET', sent) or 0) >= batch.parcel then
        batch.used, batch.notes = {}, {}
    else
        redis.call('SET', sent, batch.parcel, 'EX', KEPT)
    end
end

for _, row in ipairs(batch.used) do
    local key, name = prefix .. 'usage:' .. row[1], row[2]
    if redis.call('HLEN', key) >= 4 * batch.most_rows and redis.call('HEXISTS', key, name .. 1) == 0 then name = row[3] end
    -- A sum that is too large for the server stays as it is.
    for field = 1, 3 do redis.pcall('HINCRBY', key, name .. field, row[3 + field]) end
    redis.pcall('HINCRBYFLOAT', key, name .. 4, row[7])
    redis.call('EXPIRE', key, USAGE_DAYS * 86400)
end

-- What is known of an address: its score, the time of that, until when it is banned, for how long, how many times.
local function known(address)
    local found, one = redis.call('GET', prefix .. 'address:' .. address), {}
    if not found then return nil end
    for number in string.gmatch(found, '%S+') do table.insert(one, tonumber(number)) end
    return #one == 5 and one or nil
end

local function seconds_left(one)
    return math.min(math.max(0, one[3] - at), one[4])
end

local function noted(one, what, amount, seconds)
    if what == 'strike' then
        return {one[1] * 0.5 ^ (math.max(0, at - one[2]) / seconds) + amount, at, one[3], one[4], one[5]}
    elseif what == 'ban' then
        if seconds_left(one) >= seconds then return one end
        return {0, at, at + seconds, seconds, math.max(one[5], amount)}
    elseif what == 'forgive' then
        return {0, at, one[3], one[4], one[5]}
    end
    return {0, at, 0, 0, 0}
end

local changed = prefix .. 'changed'
local last = batch.since ~= cjson.null and tonumber(redis.call('GET', prefix .. 'number') or 0)
for _, note in ipairs(batch.notes) do
    local address = note[1]
    local one = noted(known(address) or {0, 0, 0, 0, 0}, note[2], note[3], note[4])
    local text = string.format('%.17g %.17g %.17g %.17g %d', unpack(one))
    local kept = math.max(at, one[3] + math.max(KEPT, one[4]), one[2] + KEPT) - at
    redis.call('SET', prefix .. 'address:' .. address, text)
    if kept < FOR_GOOD then redis.call('EXPIRE', prefix .. 'address:' .. address, math.ceil(kept)) end
    redis.call('ZADD', changed, redis.call('INCR', prefix .. 'number'), address)
end
if #batch.notes > 0 then
    local many = redis.call('ZCARD', changed) - batch.most_addresses
    if many > 0 then
        local oldest = redis.call('ZRANGE', changed, 0, many - 1)
        redis.call('ZREMRANGEBYRANK', changed, 0, many - 1)
        for _, address in ipairs(oldest) do redis.call('DEL', prefix .. 'address:' .. address) end
    end
end

local changes = false
if batch.since ~= cjson.null then
    redis.call('SET', prefix .. 'epoch', ARGV[2], 'NX')
    local epoch, number = redis.call('GET', prefix .. 'epoch'), 0
    if epoch == batch.since[1] and batch.since[2] > last then -- it is as it was at some time before: whoever asks tells it all
        epoch = ARGV[2]
        redis.call('SET', prefix .. 'epoch', epoch)
    elseif epoch == batch.since[1] then
        number = batch.since[2]
    end
    local rows = redis.call('ZRANGEBYSCORE', changed, '(' .. string.format('%d', number), '+inf', 'WITHSCORES', 'LIMIT', 0, batch.most_records)
    local records = {}
    for row = 1, #rows, 2 do
        local one = known(rows[row])
        number = tonumber(rows[row + 1])
        if one then
            table.insert(records, {rows[row], one[1], at - one[2], seconds_left(one), one[4], one[5]})
        else
            redis.call('ZREM', changed, rows[row])
        end
    end
    changes = {epoch, number, records, #rows == 2 * batch.most_records}
end
return cjson.encode({verdicts, changes})

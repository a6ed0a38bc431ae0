-- A limit is a text that begins with its algorithm; the arithmetic is that of cache-core's recipe::limit::algorithm.
-- KEYS: limit  ARGV: cost (0: peek), algorithm, limit or burst, interval or window in µs
-- -> {allowed, remaining, retry µs, reset µs, now µs}
local K=KEYS[1]
local cost,kind,most,span=tonumber(ARGV[1]),ARGV[2],tonumber(ARGV[3]),tonumber(ARGV[4])
local ask=math.max(cost,1)
local held=redis.call('GET',K) or kind
-- digits, or for a log a sum and pieces of 12 bytes
local formed=kind=='l:' and (#held==2 or #held%12==6) or kind~='l:' and string.find(held,'^[%d:]*$',3)
if string.sub(held,1,2)~=kind or not formed then
  return redis.error_reply('WRONGTYPE the key holds no limit of this kind')
end
held=string.sub(held,3)
local t=redis.call('TIME')
local now=t[1]*1000000+t[2]
local function digits(n) return string.format('%.0f',n) end
local function keep(text,us) redis.call('SET',K,kind..text,'PX',digits(math.max(math.ceil(us/1000),1))) end
local function answer(allowed,remaining,retry,reset)
  return {allowed and 1 or 0,digits(remaining),digits(retry),digits(reset),digits(now)}
end

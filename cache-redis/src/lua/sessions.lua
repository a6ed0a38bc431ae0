-- The sessions of a place.
-- KEYS: index, a sorted set: name -> ms at which it ends; data, a hash: name -> created:ends:length of owner:owner payload
-- A session is alive if it has both and a time to come. Asking for both first refuses keys of another kind before
-- anything is written.
local I,D=KEYS[1],KEYS[2]
local NOW=now()
local INDEXED,KEPT=redis.call('ZCARD',I),redis.call('HLEN',D)
-- drops what has ended; writes only then, since after one write full memory refuses a script nothing more
local function trim()
  if INDEXED==0 and KEPT>0 then redis.call('DEL',D) end
  local dead=redis.call('ZRANGEBYSCORE',I,'-inf',text(NOW))
  if #dead==0 then return end
  for _,name in ipairs(dead) do redis.call('HDEL',D,name) end
  redis.call('ZREMRANGEBYSCORE',I,'-inf',text(NOW))
end
-- what a live session holds, and when it ends
local function alive(name)
  local at=redis.call('ZSCORE',I,name)
  if not at or tonumber(at)<=NOW then return false end
  return redis.call('HGET',D,name),at
end
-- both keys live as long as the longest session
local function keep()
  local last=redis.call('ZRANGE',I,-1,-1,'WITHSCORES')[2]
  if last then
    redis.call('PEXPIREAT',I,last)
    redis.call('PEXPIREAT',D,last)
  end
end
-- when a session ends that is touched now
local function prolonged(held,idle)
  return text(math.min(NOW+idle,tonumber(string.match(held,'^%d+:(%d+):'))))
end

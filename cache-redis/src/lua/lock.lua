-- A lock is a hash: t token of the holder, d its end in ms, f the last fence, q the line: 48 characters a place, the
-- waiter's token and the ms until which it counts as alive. It is kept for an hour after its end, for the fence.
local K=KEYS[1]
local h=redis.call('HMGET',K,'t','d','f','q')
if not h[3] and redis.call('EXISTS',K)==1 then return redis.error_reply('WRONGTYPE the key holds no lock') end
local holder,ends,q=h[1],tonumber(h[2] or '0') or 0,h[4] or ''
local t=redis.call('TIME')
local us=t[1]*1000000+t[2]
local now=math.floor(us/1000)
local held=holder and ends>now
local function digits(n) return string.format('%.0f',n) end
local function keep(till)
  redis.call('PEXPIRE',K,digits(math.max(till,ends,now)-now+3600000))
end
local function place(token,ms) return token..string.format('%016.0f',ms) end
-- skips who stopped asking; the token of who is next, and until when its place is kept
local function first()
  local at=1
  while at<#q and (tonumber(string.sub(q,at+32,at+47)) or 0)<=now do at=at+48 end
  q=string.sub(q,at)
  if q~='' then return string.sub(q,1,32),tonumber(string.sub(q,33,48)) end
end
-- where in the line a token stands
local function find(token)
  for at=1,#q,48 do
    if string.sub(q,at,at+31)==token then return at end
  end
end
local function leave(token)
  local at=find(token)
  if at then q=string.sub(q,1,at-1)..string.sub(q,at+48) end
  return at
end
-- writes the line if it changed
local function line()
  if q==(h[4] or '') then return end
  if q=='' then redis.call('HDEL',K,'q') else redis.call('HSET',K,'q',q) end
end

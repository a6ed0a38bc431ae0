-- The generations of tags, a hash a period p: tag -> number of its last bump; m: every bump above it is in this hash
-- or a later one; s: the m of the next period's hash, if that was made while this one was whole.
-- KEYS: hash of p-2, seq, hash of p, of p-1, of p+1
local OLD,SEQ,P,PREV,NEXT=KEYS[1],KEYS[2],KEYS[3],KEYS[4],KEYS[5]
-- Makes the hash of p; the sequence stands at m.
local function open(m,keep)
  redis.call('HSET',P,'m',m)
  -- a hash that comes back behind its successor lacks what it held before
  if redis.call('EXISTS',NEXT)==1 then redis.call('HSET',P,'s','0') end
  redis.call('PEXPIRE',P,keep)
  if redis.call('HEXISTS',PREV,'m')==1 then redis.call('HSETNX',PREV,'s',m) end
end

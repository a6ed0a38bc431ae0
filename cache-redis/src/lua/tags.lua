-- The generations of tags, a hash a period p: tag -> number of its last bump; m: the number at its making, bumps up to
-- it may be missing; s: the m of the hash after it. Where the two agree nothing was lost between them.
-- Clocks differ by a little: once a hash has a successor, bumps go into that one and readers begin there, so that the
-- loss of either shows.
-- KEYS: hash of p-2, seq, hash of p+1, of p, of p-1
local OLD,SEQ=KEYS[1],KEYS[2]
local HASH={KEYS[3],KEYS[4],KEYS[5]}
local function place()
  if redis.call('HEXISTS',HASH[2],'s')==1 or redis.call('EXISTS',HASH[1])==1 then return 1 end
  return 2
end
local function open(at,m,keep)
  redis.call('HSET',HASH[at],'m',m)
  redis.call('PEXPIRE',HASH[at],keep)
  if redis.call('HEXISTS',HASH[at+1],'m')==1 then redis.call('HSETNX',HASH[at+1],'s',m) end
end

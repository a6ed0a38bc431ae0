-- Rewrites bytes in place. PEXPIRE comes first, with the ttl that the key has: it is a write that full memory does not
-- refuse, and after one write a script is not refused any. In its last millisecond a key is given that, and may go all the
-- same: PEXPIRE removes what is over, and SETRANGE would make a new key without a ttl.
local function patch(k,at,bytes)
  local p=redis.call('PTTL',k)
  if p>=0 then redis.call('PEXPIRE',k,string.format('%.0f',math.max(p,1))) end
  if redis.call('EXISTS',k)==1 then redis.call('SETRANGE',k,at,bytes) end
end

-- Rewrites bytes in place. PEXPIRE comes first, with the ttl that the key has: it is a write that full memory does not
-- refuse, and after one write a script is not refused any. In its last millisecond a key is given that: a ttl of 0 removes it,
-- and SETRANGE would make a new one without a ttl.
local function patch(k,at,bytes)
  local p=redis.call('PTTL',k)
  if p>=0 then redis.call('PEXPIRE',k,string.format('%.0f',math.max(p,1))) end
  redis.call('SETRANGE',k,at,bytes)
end

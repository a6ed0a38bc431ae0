-- PUT if the row is newer, else everybody is told that what stands is to be read; put.lua follows
local h=value(KEYS[2])
if h and struct.unpack('<I4',string.sub(h,45,48))>=struct.unpack('<I4',string.sub(ARGV[5],45,48)) then
  -- a write that full memory does not refuse comes first, as in patch.lua; what has no ttl is given the frame's
  local p=redis.call('PTTL',KEYS[2])
  redis.call('PEXPIRE',KEYS[2],p<0 and ARGV[4] or string.format('%.0f',math.max(p,1)))
  return {tell(),2,0}
end

-- A key's header; see cache-core's envelope for the offsets (Lua counts from 1).
local NONE=string.rep('\0',8)
-- state (nil if the bytes are no frame), token, header
local function look(k)
  local h=redis.call('GETRANGE',k,0,47)
  if #h<48 or string.byte(h,1)~=199 or string.byte(h,2)~=1 then return nil,NONE,h end
  return string.sub(h,3,3),string.sub(h,9,16),h
end

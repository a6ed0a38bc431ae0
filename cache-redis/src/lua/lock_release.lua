-- RELEASE  KEYS: lock  ARGV: token, publish verb, channel  -> 1 | 0
local token=ARGV[1]
local mine=holder==token
local was=mine and held
if mine then
  redis.call('HDEL',K,'t','d')
  held=false
end
local left=leave(token)
if not held and (mine or left) then
  local next=first()
  -- it has two seconds to come
  if next then q=place(next,now+2000)..string.sub(q,49) end
  line()
  -- whoever may not hear it looks again by itself
  redis.pcall(ARGV[2],ARGV[3],next or '*')
else
  line()
end
return was and 1 or 0

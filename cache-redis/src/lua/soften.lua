-- SOFTEN for ms  KEYS, ARGV and reply: as in publish.lua
local removed,stored,fault=0,0
for i=2,#KEYS do
  local k=KEYS[i]
  local h=value(k)
  if h then
    local p,g=redis.call('PTTL',k),tonumber(ARGV[4])
    -- as in patch.lua: what is over goes, and is not made anew without a ttl
    if p>=0 and p<g then g=math.max(p,1) end
    redis.call('PEXPIRE',k,string.format('%.0f',g))
    if redis.call('EXISTS',k)==1 then
      local r=redis.pcall('SETRANGE',k,2,bare(h))
      if type(r)=='table' and r.err then redis.call('DEL',k) end
    end
    removed=removed+1
  else
    removed=removed+redis.call('DEL',k)
  end
end

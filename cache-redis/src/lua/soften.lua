-- SOFTEN for ms  KEYS, ARGV and reply: as in publish.lua
local removed,stored,fault=0,0
for i=2,#KEYS do
  local k=KEYS[i]
  local h=value(k)
  if h then
    local p,g=redis.call('PTTL',k),tonumber(ARGV[4])
    -- never 0: it would remove the key, and SETRANGE make one without a ttl
    if p>=0 and p<g then g=math.max(p,1) end
    redis.call('PEXPIRE',k,string.format('%.0f',g))
    local r=redis.pcall('SETRANGE',k,2,bare(h))
    if type(r)=='table' and r.err then redis.call('DEL',k) end
    removed=removed+1
  else
    removed=removed+redis.call('DEL',k)
  end
end

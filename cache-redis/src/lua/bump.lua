-- BUMP  KEYS: as in tags.lua  ARGV: verb, channel, node, tag, ms to keep  -> n
redis.call('DEL',OLD)
local n=number(SEQ)
local at=place()
local r=n>0 and redis.pcall('HSET',HASH[at],ARGV[4],string.format('%.0f',n))
if type(r)=='number' then
  if redis.call('HEXISTS',HASH[at],'m')==0 then open(at,string.format('%.0f',n-1),ARGV[5])
  else redis.call('PEXPIRE',HASH[at],ARGV[5]) end
else
  -- a bump that can't be kept: forget all, so that nothing older can be judged valid
  redis.call('DEL',HASH[1],HASH[2],HASH[3])
end
n=string.format('%.0f',n)
redis.call(ARGV[1],ARGV[2],'t '..n..' '..ARGV[3]..' '..ARGV[4])
return n

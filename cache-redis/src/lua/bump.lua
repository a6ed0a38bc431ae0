-- BUMP  KEYS: as in tags.lua  ARGV: verb, channel, node, tag, ms to keep  -> n
redis.call('DEL',OLD)
local n=number(SEQ)
local fits=n>0 and redis.pcall('HSET',P,ARGV[4],text(n))
if fits and not (type(fits)=='table' and fits.err) then
  if redis.call('HEXISTS',P,'m')==0 then open(text(n-1),ARGV[5]) else redis.call('PEXPIRE',P,ARGV[5]) end
  -- one whose clock is ahead has begun the next period, and its readers won't look here for long
  if redis.call('EXISTS',NEXT)==1 then redis.call('HSET',NEXT,ARGV[4],text(n)); redis.call('PEXPIRE',NEXT,ARGV[5]) end
else
  -- a bump that can't be kept: forget all, so that nothing older can be judged valid
  redis.call('DEL',P,PREV,NEXT)
end
redis.call(ARGV[1],ARGV[2],'t '..text(n)..' '..ARGV[3]..' '..ARGV[4])
return text(n)

-- WAIT  KEYS: key  ARGV: holder  -> {0,pttl,frame} changed | {1,left} flagged | {2} missing
local k=KEYS[1]
local st,h=held(k,ARGV[1])
if not st then
  if h=='' and redis.call('EXISTS',k)==0 then return {2} end
  return {0,text(redis.call('PTTL',k)),redis.call('GET',k)}
end
local f=string.byte(h,4)
if f%8<4 then patch(k,3,string.char(f+4)) end
if st=='L' then return {1,text(redis.call('PTTL',k))} end
return {1,text(math.max(deadline(h)-now(),0))}

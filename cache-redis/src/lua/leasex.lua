-- LEASEX  KEYS: key  ARGV: token, span ms, lease frame
-- -> {0} granted | {1,pttl,frame} found | {2,left,holder} held | {3,left} barred
local k=KEYS[1]
local st,token,h=look(k)
if h=='' and redis.call('EXISTS',k)==0 then redis.call('SET',k,ARGV[3],'PX',ARGV[2]); return {0} end
if st=='L' then return {2,text(redis.call('PTTL',k)),token} end
if st~='V' and st~='N' and st~='S' and st~='T' then return {1,text(redis.call('PTTL',k)),redis.call('GET',k)} end
local dl=deadline(h)
local left=dl-now()
-- a soft expiry of zero is none
if left>0 or (dl==0 and (st=='V' or st=='N')) then
  if st=='S' then return {2,text(left),token} end
  if st=='T' then return {3,text(left)} end
  return {1,text(redis.call('PTTL',k)),redis.call('GET',k)}
end
if st=='T' then redis.call('SET',k,ARGV[3],'PX',ARGV[2]); return {0} end
-- the fallback keeps the ttl that it has: it may not outlive its grace
patch(k,2,'S'..string.sub(h,4,8)..ARGV[1]..string.sub(h,17,24)..struct.pack('<I8',now()+tonumber(ARGV[2])))
return {0}

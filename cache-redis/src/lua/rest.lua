-- REST  KEYS: key  ARGV: token, channel, publish verb, span ms  -> 1 | 0
local k=KEYS[1]
local st,h=held(k,ARGV[1])
if not st then return 0 end
if st=='L' then redis.call('DEL',k)
else patch(k,2,string.sub(bare(h),1,22)..struct.pack('<I8',now()+tonumber(ARGV[4]))) end
wake(h,k,ARGV[3],ARGV[2])
return 1

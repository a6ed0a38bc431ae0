-- RELEASE  KEYS: key  ARGV: token, channel, publish verb  -> 1 | 0
local k=KEYS[1]
local st,h=held(k,ARGV[1])
if not st then return 0 end
if st=='L' then redis.call('DEL',k)
else patch(k,3,quiet(h)..string.sub(h,5,8)..NONE..string.sub(h,17,24)..NONE) end
wake(h,k,ARGV[3],ARGV[2])
return 1

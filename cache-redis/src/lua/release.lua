-- RELEASE  KEYS: key  ARGV: token, channel, publish verb  -> 1 | 0
local k=KEYS[1]
local st,h=held(k,ARGV[1])
if not st then return 0 end
if st=='L' then redis.call('DEL',k) else patch(k,2,bare(h)) end
wake(h,k,ARGV[3],ARGV[2])
return 1

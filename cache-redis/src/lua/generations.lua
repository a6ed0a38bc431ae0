-- GENERATIONS  KEYS: as in tags.lua  ARGV: ms to keep, tags...  -> {floor, bump of each tag}
local at=place()
local floor=redis.call('HGET',HASH[at],'m')
if not floor then
  -- a first write, which full memory does not refuse
  redis.call('DEL',OLD)
  if redis.call('EXISTS',SEQ)==0 then create(SEQ) end
  floor=redis.call('GET',SEQ)
  if floor and string.find(floor,'^%d+$') then open(at,floor,ARGV[1]) else floor='18446744073709551615' end
end
for i=at+1,3 do
  local h=redis.call('HMGET',HASH[i],'m','s')
  if not h[1] or h[2]~=floor then break end
  floor=h[1]
end
local out={floor}
if #ARGV>1 then
  local unpack=table.unpack or unpack
  for _,h in ipairs(HASH) do
    for i,n in ipairs(redis.call('HMGET',h,unpack(ARGV,2))) do
      local last=out[i+1] or '0'
      if n and (#n>#last or (#n==#last and n>last)) then last=n end
      out[i+1]=last
    end
  end
end
return out

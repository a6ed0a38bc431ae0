-- GENERATIONS  KEYS: as in tags.lua  ARGV: ms to keep, tags...  -> {floor, bump of each tag}
local m=redis.call('HGET',P,'m')
if not m then
  -- a first write that full memory does not refuse
  redis.call('DEL',OLD)
  if redis.call('EXISTS',SEQ)==0 then create(SEQ) end
  m=redis.call('GET',SEQ)
  if m then open(m,ARGV[1]) end
end
local floor=m or '18446744073709551615'
if m then
  local prev=redis.call('HMGET',PREV,'m','s')
  if prev[1] and prev[2]==m then floor=prev[1] end
end
local out={floor}
if #ARGV>1 then
  local unpack=table.unpack or unpack
  for _,h in ipairs({P,PREV,NEXT}) do
    for i,n in ipairs(redis.call('HMGET',h,unpack(ARGV,2))) do
      local last=out[i+1] or '0'
      if n and (#n>#last or (#n==#last and n>last)) then last=n end
      out[i+1]=last
    end
  end
end
return out

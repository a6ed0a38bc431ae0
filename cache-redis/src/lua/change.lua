-- CHANGE  KEYS: seq, keys...  ARGV: verb, channel, node, mode, ms, frame
-- mode: D delete | S soften for ms | H hold for ms | P put frame for ms | R put frame for ms if its row is newer
-- -> {n, stored, removed}
local mode,ms,frame=ARGV[4],ARGV[5],ARGV[6]
local function peek(k)
  local h=redis.pcall('GETRANGE',k,0,47)
  if type(h)~='string' or #h<48 or string.byte(h,1)~=199 or string.byte(h,2)~=1 then return nil end
  local st=string.sub(h,3,3)
  if st=='V' or st=='N' or st=='S' then return h end
end
local function soften(k)
  local h=peek(k)
  if not h then return redis.call('DEL',k) end
  local p=redis.call('PTTL',k)
  local g=tonumber(ms)
  if p>=0 and p<g then g=p end
  redis.call('PEXPIRE',k,text(g))
  local r=redis.pcall('SETRANGE',k,2,'S'..quiet(h)..string.sub(h,5,8)..NONE..string.sub(h,17,24)..NONE)
  if type(r)=='table' and r.err then redis.call('DEL',k) end
  return 1
end
local room=true
if mode=='R' then
  local h=peek(KEYS[2])
  if h and struct.unpack('<I4',string.sub(h,45,48))>=struct.unpack('<I4',string.sub(frame,45,48)) then return {'0',0,0} end
end
if mode=='P' or mode=='R' then
  -- writes nothing, but says whether full memory would refuse a value; after the DEL nothing is refused any more
  local r=redis.pcall('SETRANGE',KEYS[2],0,'')
  room=not (type(r)=='table' and r.err and not string.find(r.err,'WRONGTYPE',1,true))
end
local removed=0
for i=2,#KEYS do
  if mode=='S' then removed=removed+soften(KEYS[i]) else removed=removed+redis.call('DEL',KEYS[i]) end
end
local fault
if mode=='H' then
  local bar=string.sub(frame,1,24)..struct.pack('<I8',now()+tonumber(ms))..string.sub(frame,33)
  for i=2,#KEYS do
    local r=redis.pcall('SET',KEYS[i],bar,'PX',ms)
    if type(r)=='table' and r.err then fault=r end
  end
end
local n=text(number(KEYS[1]))
local stored=0
if room and (mode=='P' or mode=='R') then
  local r=redis.pcall('SET',KEYS[2],frame,'PX',ms)
  if not (type(r)=='table' and r.err) then stored=1 end
end
local m={'i',n,ARGV[3]}
for i=2,#KEYS do m[#m+1]=text(#KEYS[i])..':'..KEYS[i] end
redis.call(ARGV[1],ARGV[2],table.concat(m,' '))
return fault or {n,stored,removed}

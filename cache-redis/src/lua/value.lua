-- the header under a key if it is a value of ours, be it negative or stale
local function value(k)
  local h=redis.pcall('GETRANGE',k,0,47)
  if type(h)~='string' or #h<48 or string.byte(h,1)~=199 or string.byte(h,2)~=1 then return nil end
  local st=string.sub(h,3,3)
  if st=='V' or st=='N' or st=='S' then return h end
end

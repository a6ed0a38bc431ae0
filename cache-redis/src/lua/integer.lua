-- Integers of 64 bits as decimal text, since a number in Lua has 53 bits.
local BAD={err='ERR value is not an integer or out of range'}
-- whether a < b
local function below(a,b)
  local x,y=string.byte(a)==45,string.byte(b)==45
  if x~=y then return x end
  if x then a,b=string.sub(b,2),string.sub(a,2) end
  if #a~=#b then return #a<#b end
  return a<b
end
-- the integer under a key; false if there is nothing, nil if there is something else
local function integer(k)
  local n=redis.call('GET',k)
  if not n or n=='0' then return n end
  if not string.find(n,'^%-?[1-9]%d*$') then return nil end
  if below(n,'-9223372036854775808') or below('9223372036854775807',n) then return nil end
  return n
end

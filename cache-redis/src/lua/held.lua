-- state (nil if another holds it) and header of a lease that token holds
local function held(k,token)
  local st,tk,h=look(k)
  if (st=='L' or st=='S') and tk==token and tk~=NONE then return st,h end
  return nil,h
end

local whole=span*most
-- never further off than a whole burst: what lies beyond was left by a larger limit, or by a clock set back
local stored=tonumber(held) or 0
local nxt=math.min(math.max(stored,now),now+whole)
local late=math.max(nxt+span*ask-now-whole,0)
if late==0 and cost>0 then
  nxt=nxt+span*cost
  keep(digits(nxt),nxt-now)
elseif stored>now+whole then
  keep(digits(nxt),nxt-now)
end
return answer(late==0,math.floor((whole-(nxt-now))/span),late,nxt-now)

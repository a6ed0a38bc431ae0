local count,till=string.match(held,'^(%d+):(%d+)$')
count,till=tonumber(count) or 0,tonumber(till) or 0
-- as for gcra
local far=till>now+span
if far then till=now+span end
if till<=now then count,till=0,now+span end
local allowed=count+ask<=most
if allowed and cost>0 then count=count+cost else cost=0 end
if cost>0 or far then
  keep(digits(count)..':'..digits(till),till-now)
end
return answer(allowed,math.max(most-count,0),allowed and 0 or till-now,count==0 and 0 or till-now)

local index,before,count=string.match(held,'^(%d+):(%d+):(%d+)$')
index,before,count=tonumber(index) or 0,tonumber(before) or 0,tonumber(count) or 0
local at=math.floor(now/span)
local passed=now-at*span
-- a clock that was set back a little stands still until it has caught up
if index==at+1 then at,passed=index,0 end
if at==index+1 then before,count=count,0
elseif at~=index then before,count=0,0 end
local left=span-passed
local weight=before*left/span
local allowed=weight+count+ask<=most
if allowed and cost>0 then
  count=count+cost
  keep(digits(at)..':'..digits(before)..':'..digits(count),left+span)
end
local retry,free=0,most-count-ask
if not allowed then
  if free>=0 then retry=math.max(math.ceil(span-free*span/before)-passed,1)
  else retry=left+math.max(math.ceil(span-(most-ask)*span/count),0) end
end
local reset=0
if count>0 then reset=left+span elseif before>0 then reset=left end
return answer(allowed,math.max(math.floor(most-weight-count),0),retry,reset)

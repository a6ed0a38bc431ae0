-- the sum of all costs, then 12 bytes a take: its µs and its cost
local total,at=0,5
local function take(i) return struct.unpack('<I8I4',string.sub(held,i,i+11)) end
if #held>=16 then
  total=struct.unpack('<I4',string.sub(held,1,4))
  local last=take(#held-11)
  -- a clock that was set back stands still until it has caught up, but no longer than a window
  if last>now+span then held,total='',0 else now=math.max(now,last) end
else held='' end
while at<#held do
  local moment,gone=take(at)
  if moment+span>now then break end
  total=total-gone
  at=at+12
end
local allowed=total+ask<=most
local retry,last=0,nil
if allowed and cost>0 then
  total=total+cost
  last=now
  keep(struct.pack('<I4',total)..string.sub(held,math.max(at,5))..struct.pack('<I8I4',now,cost),span)
else
  if at<#held then last=take(#held-11) end
  if not allowed then
    local over=total+ask-most
    for i=at,#held-11,12 do
      local moment,gone=take(i)
      retry=moment+span-now
      over=over-gone
      if over<=0 then break end
    end
  end
end
return answer(allowed,math.max(most-total,0),retry,last and last+span-now or 0)

-- ACQUIRE  KEYS: lock  ARGV: token, ttl ms, ms that a place is kept (0: respect the line, '': pass it)
-- -> {1,fence} granted | {0,ms left} held
local token,ttl,stay=ARGV[1],tonumber(ARGV[2]),tonumber(ARGV[3])
if held and holder==token then
  ends=math.max(ends,now+ttl)
  keep(ends)
  redis.call('HSET',K,'d',digits(ends))
  return {1,h[3]}
end
local busy=held and ends
if stay then
  local next,alive=first()
  if not busy and next and next~=token then busy=alive end
end
if busy then
  if stay and stay>0 then
    local at=find(token)
    if at then q=string.sub(q,1,at-1)..place(token,now+stay)..string.sub(q,at+48)
    elseif #q<48*1024 then q=q..place(token,now+stay) end
    line()
    keep(now)
  end
  return {0,digits(busy-now)}
end
local f=tonumber(h[3] or '0') or 0
f=digits(math.max(us,f+1))
leave(token)
redis.call('HSET',K,'t',token,'d',digits(now+ttl),'f',f)
line()
ends=now+ttl
keep(ends)
return {1,f}

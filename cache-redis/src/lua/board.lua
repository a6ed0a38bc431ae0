-- KEYS: board  ARGV[1]: whether the highest comes first
local K,HIGH=KEYS[1],ARGV[1]=='1'
local function rank(member) return redis.call(HIGH and 'ZREVRANK' or 'ZRANK',K,member) end
-- how many stand before the first, then member, score and so on
local function range(from,to)
  local all=redis.call(HIGH and 'ZREVRANGE' or 'ZRANGE',K,string.format('%.0f',from),string.format('%.0f',to),'WITHSCORES')
  table.insert(all,1,string.format('%.0f',from))
  return all
end

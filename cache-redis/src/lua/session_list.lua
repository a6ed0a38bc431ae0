-- LIST  -> name, when it ends, what it holds; and so on, the one that ends first first
trim()
local all=redis.call('ZRANGE',I,0,-1,'WITHSCORES')
local live={}
for i=1,#all,2 do
  local held=redis.call('HGET',D,all[i])
  if held then
    live[#live+1]=all[i]
    live[#live+1]=all[i+1]
    live[#live+1]=held
  end
end
return live

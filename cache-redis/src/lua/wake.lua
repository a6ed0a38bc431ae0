local function wake(h,k,verb,channel)
  if string.byte(h,4)%8>=4 then redis.call(verb,channel,'w '..#k..':'..k) end
end

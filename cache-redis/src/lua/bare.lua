-- bytes 3 to 31 of the same frame as a fallback without lease and waiter
local function bare(h)
  local f=string.byte(h,4); if f%8>=4 then f=f-4 end
  local none=string.rep('\0',8)
  return 'S'..string.char(f)..string.sub(h,5,8)..none..string.sub(h,17,24)..none
end

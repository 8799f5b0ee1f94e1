# bin/build.json beside the addons: what was compiled, with what, and why something was not. `equipoise doctor` shows it.
function(eq_json_string out value)
  string(REPLACE "\\" "\\\\" value "${value}")
  string(REPLACE "\"" "\\\"" value "${value}")
  set(${out} "\"${value}\"" PARENT_SCOPE)
endfunction()

eq_json_string(compiler "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
eq_json_string(cuda_compiler "${CMAKE_CUDA_COMPILER_ID} ${CMAKE_CUDA_COMPILER_VERSION}")
eq_json_string(cuda_absent "${EQ_CUDA_ABSENT}")
eq_json_string(build_type "${CMAKE_BUILD_TYPE}")
if(EQ_CUDA_ABSENT)
  set(cuda "{ \"built\": false, \"reason\": ${cuda_absent} }")
else()
  set(cuda "{ \"built\": true, \"compiler\": ${cuda_compiler}, \"architectures\": \"${EQ_CUDA_TARGETS}\" }")
endif()
if(EQ_SANITIZE)
  set(sanitize true)
else()
  set(sanitize false)
endif()
file(WRITE ${CMAKE_BINARY_DIR}/bin/build.json
"{
  \"cmake\": \"${CMAKE_VERSION}\",
  \"buildType\": ${build_type},
  \"sanitize\": ${sanitize},
  \"cpu\": { \"built\": true, \"compiler\": ${compiler} },
  \"cuda\": ${cuda}
}
")

# Flags shared by every target.
add_library(eq_options INTERFACE)
target_include_directories(eq_options INTERFACE ${CMAKE_CURRENT_LIST_DIR}/..)
target_compile_options(eq_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wno-unknown-pragmas>)
if(EQ_WERROR)
  target_compile_options(eq_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(EQ_SANITIZE)
  target_compile_options(eq_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined;-fno-sanitize-recover=undefined;-fno-omit-frame-pointer;-g>)
  target_link_options(eq_options INTERFACE -fsanitize=address,undefined)
endif()
target_link_libraries(eq_options INTERFACE Threads::Threads)

# Node headers and node-addon-api.
add_library(eq_node INTERFACE)
execute_process(
  COMMAND node -p "require('node-addon-api').include_dir"
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
  OUTPUT_VARIABLE EQ_NODE_ADDON_API OUTPUT_STRIP_TRAILING_WHITESPACE
  COMMAND_ERROR_IS_FATAL ANY)
get_filename_component(EQ_NODE_ADDON_API ${EQ_NODE_ADDON_API} ABSOLUTE BASE_DIR ${CMAKE_SOURCE_DIR})
target_include_directories(eq_node SYSTEM INTERFACE ${CMAKE_JS_INC} ${EQ_NODE_ADDON_API})
target_compile_definitions(eq_node INTERFACE NAPI_VERSION=9 NAPI_CPP_EXCEPTIONS NODE_ADDON_API_DISABLE_DEPRECATED)
# now: a missing symbol is told when the addon loads, not at the first call. nodelete: Node unloads an addon when the last
# worker that loaded it ends, and threads of the device may then still be returning from it.
target_link_options(eq_node INTERFACE -Wl,-z,now -Wl,-z,nodelete)
if(CMAKE_JS_LIB)
  target_link_libraries(eq_node INTERFACE ${CMAKE_JS_LIB})
endif()

file(GLOB EQ_RUNTIME_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../runtime/*.cc)
file(GLOB EQ_ADDON_SOURCES CONFIGURE_DEPENDS
  ${CMAKE_CURRENT_LIST_DIR}/../addon/*.cc ${CMAKE_CURRENT_LIST_DIR}/../addon/ops/*.cc)
list(FILTER EQ_ADDON_SOURCES EXCLUDE REGEX "device_(cpu|cuda)\\.(cc|cu)$")

# What all addons share is compiled once.
add_library(eq_addon OBJECT ${EQ_RUNTIME_SOURCES} ${EQ_ADDON_SOURCES})
target_link_libraries(eq_addon PRIVATE eq_options eq_node)

#include "special_registers.h"

#include <unordered_map>

namespace ptx {
namespace {

const std::unordered_map<string_view, int> kNames = {
    {"%tid.x", kThreadIndex},
    {"%tid.y", kThreadIndex + 1},
    {"%tid.z", kThreadIndex + 2},
    {"%ntid.x", kBlockSize},
    {"%ntid.y", kBlockSize + 1},
    {"%ntid.z", kBlockSize + 2},
    {"%ctaid.x", kBlockIndex},
    {"%ctaid.y", kBlockIndex + 1},
    {"%ctaid.z", kBlockIndex + 2},
    {"%nctaid.x", kGridSize},
    {"%nctaid.y", kGridSize + 1},
    {"%nctaid.z", kGridSize + 2},
    {"%laneid", kLane},
    {"%warpid", kWarpIndex},
    {"%nwarpid", kWarpCount},
    {"%lanemask_eq", kLanesEqual},
    {"%lanemask_lt", kLanesLess},
    {"%lanemask_le", kLanesLessEqual},
    {"%lanemask_gt", kLanesGreater},
    {"%lanemask_ge", kLanesGreaterEqual},
    {"%smid", kProcessorIndex},
    {"%nsmid", kProcessorCount},
    {"%dynamic_smem_size", kDynamicShared},
    {"%total_smem_size", kTotalShared},
    {"%gridid", kGridIdentity},
    {"%clusterid.x", kClusterIndex},
    {"%clusterid.y", kClusterIndex + 1},
    {"%clusterid.z", kClusterIndex + 2},
    {"%nclusterid.x", kClusterCount},
    {"%nclusterid.y", kClusterCount + 1},
    {"%nclusterid.z", kClusterCount + 2},
    {"%cluster_ctaid.x", kIndexInCluster},
    {"%cluster_ctaid.y", kIndexInCluster + 1},
    {"%cluster_ctaid.z", kIndexInCluster + 2},
    {"%cluster_nctaid.x", kClusterSize},
    {"%cluster_nctaid.y", kClusterSize + 1},
    {"%cluster_nctaid.z", kClusterSize + 2},
    {"%cluster_ctarank", kClusterRank},
    {"%cluster_nctarank", kClusterBlocks},
    {"%is_explicit_cluster", kIsExplicitCluster},
    {"%clock", kClock},
    {"%clock64", kClock},
    {"%clock_hi", kClock},
    {"%globaltimer", kClock},
    {"%globaltimer_lo", kClock},
};

}  // namespace

std::optional<int> special_register_named(string_view name) {
  const auto found = kNames.find(name);
  if (found == kNames.end()) return std::nullopt;
  return found->second;
}

}  // namespace ptx
